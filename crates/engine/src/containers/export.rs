//! A container's own file system as one archive: without what is mounted in it.

use super::Phase;
use super::archive::{ByteStream, Compression, archive_stream};
use crate::archive::mounts::Access;
use crate::archive::pack::{self, Start};
use crate::events::translate::container_event;
use crate::{Engine, Error, Result};

impl Engine {
    /// The archive of a container's root, running or not, made while it is read. Dropping the stream ends the work.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`], [`Error::CannotExport`]; [`Error::Failed`] when the root cannot be mounted. What fails
    /// later is the last item of the stream.
    pub async fn export_container(&self, typed: &str) -> Result<ByteStream> {
        let container = self.resolve_container(typed).await?;
        // moby daemon/export.go
        let reason = match container.state.phase {
            Phase::Dead => Some("which is Dead"),
            Phase::Removing => Some("which is being removed"),
            _ => None,
        };
        if let Some(reason) = reason {
            return Err(Error::CannotExport { container: container.id.to_string(), reason });
        }
        let leave = self.transfer().await?;
        let tree = self.assemble_root(&container, &[], Access::Read).await?;
        self.hub().publish(container_event(&container, "export", &[]));
        Ok(archive_stream(leave, Compression::Identity, move |output| {
            let root = tree.look_at(std::path::Path::new("/"))?;
            pack::pack(&root, Start::Contents, output)
        }))
    }
}
