//! Where buildkitd listens.

use std::path::{Path, PathBuf};

/// The sockets that nerdctl would try, in its order (nerdctl `pkg/buildkitutil`): the one that is named and no other, or
/// those of the namespace and of everybody below `run`. One that is named but is no Unix socket gives none.
pub(super) fn sockets(named: Option<&str>, run: &Path, namespace: &str) -> Vec<PathBuf> {
    if let Some(named) = named {
        return named.strip_prefix("unix://").map(PathBuf::from).into_iter().collect();
    }
    let own = (namespace != "default").then(|| format!("buildkit-{namespace}"));
    let folders = own.into_iter().chain(["buildkit-default".to_owned(), "buildkit".to_owned()]);
    folders.map(|folder| run.join(folder).join("buildkitd.sock")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_nerdctls() {
        let found = |named, namespace| -> Vec<String> {
            let sockets = sockets(named, Path::new("/run"), namespace);
            sockets.iter().map(|socket| socket.display().to_string()).collect()
        };
        let (everybody, default) =
            ("/run/buildkit/buildkitd.sock", "/run/buildkit-default/buildkitd.sock");
        assert_eq!(found(None, "default"), [default, everybody]);
        assert_eq!(
            found(None, "k8s.io"),
            ["/run/buildkit-k8s.io/buildkitd.sock", default, everybody]
        );
        assert_eq!(found(Some("unix:///b.sock"), "k8s.io"), ["/b.sock"]);
        assert!(found(Some("tcp://b:1234"), "default").is_empty());
    }
}
