//! Images: names that point to descriptors, and protect what those reach.

use std::collections::BTreeMap;
use std::time::SystemTime;

use containerd_client::services::v1::{
    CreateImageRequest, DeleteImageRequest, GetImageRequest, Image as WireImage, ListImagesRequest,
    UpdateImageRequest,
};

use crate::call::Call;
use crate::{Client, Descriptor, Labels, Result, wire};

/// An image record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its name; usually a full reference, but anything can stand here.
    pub name: String,
    /// Labels.
    pub labels: Labels,
    /// Manifest or index.
    pub target: Descriptor,
    /// When the record was made.
    pub created_at: SystemTime,
    /// When it was last changed.
    pub updated_at: SystemTime,
}

/// An image record to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewImage {
    /// Its name.
    pub name: String,
    /// Labels.
    pub labels: Labels,
    /// Manifest or index, whose blobs must be there: the record is written last.
    pub target: Descriptor,
}

/// Changes to an image record; what is not mentioned stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImagePatch {
    /// New manifest or index.
    pub target: Option<Descriptor>,
    /// Labels to set, or to remove with `None`.
    pub labels: BTreeMap<String, Option<String>>,
}

impl Client {
    /// One image by its exact name.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`].
    pub async fn get_image(&self, name: &str) -> Result<Image> {
        let call = Call::short("get image", name);
        let mut service = self.images_service();
        let request = GetImageRequest { name: name.to_owned() };
        let answer = self.unary(call, request, |request| service.get(request)).await?;
        Image::from_wire(call, answer.image)
    }

    /// All images that match one of the filters (all without filters). Fields: `name`,
    /// `target.digest`, `target.mediatype`, `labels."key"`.
    ///
    /// # Errors
    /// [`crate::Kind::InvalidArgument`] for a filter that is none.
    pub async fn list_images(&self, filters: &[&str]) -> Result<Vec<Image>> {
        let call = Call::list("list images", "");
        let mut service = self.images_service();
        let request = ListImagesRequest { filters: wire::filters(filters) };
        let answer = self.unary(call, request, |request| service.list(request)).await?;
        answer.images.into_iter().map(|image| Image::from_wire(call, Some(image))).collect()
    }

    /// Makes an image record.
    ///
    /// # Errors
    /// [`crate::Kind::AlreadyExists`].
    pub async fn create_image(&self, image: NewImage) -> Result<Image> {
        let name = image.name.clone();
        let call = Call::short("create image", &name);
        let mut service = self.images_service();
        let image = WireImage {
            name: image.name,
            labels: image.labels.into_iter().collect(),
            target: Some(image.target.into()),
            ..WireImage::default()
        };
        let request = CreateImageRequest { image: Some(image), source_date_epoch: None };
        let answer = self.unary(call, request, |request| service.create(request)).await?;
        Image::from_wire(call, answer.image)
    }

    /// Changes parts of an image record.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`].
    pub async fn update_image(&self, name: &str, patch: ImagePatch) -> Result<Image> {
        if patch == ImagePatch::default() {
            // An empty mask means "replace everything" to containerd.
            return self.get_image(name).await;
        }
        let call = Call::short("update image", name);
        let mut service = self.images_service();
        let (labels, mut paths) = wire::label_patch(patch.labels);
        if patch.target.is_some() {
            paths.push("target".to_owned());
        }
        let image = WireImage {
            name: name.to_owned(),
            labels,
            // containerd 1.7 and newer dereference it whatever the mask says, and crash without one.
            target: Some(patch.target.unwrap_or_default().into()),
            ..WireImage::default()
        };
        let request = UpdateImageRequest {
            image: Some(image),
            update_mask: Some(wire::mask(paths)),
            source_date_epoch: None,
        };
        let answer = self.unary(call, request, |request| service.update(request)).await?;
        Image::from_wire(call, answer.image)
    }

    /// Removes an image record; its blobs and snapshots are collected later, or with `sync` before
    /// the answer.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`].
    pub async fn delete_image(&self, name: &str, sync: bool) -> Result<()> {
        self.delete(DeleteImageRequest { name: name.to_owned(), sync, target: None }).await
    }

    /// The same, if the record still has this target. containerd 1.x does not look: compare first.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`], also for another target.
    pub async fn delete_image_of(&self, name: &str, target: &Descriptor, sync: bool) -> Result<()> {
        let target = Some(target.clone().into());
        self.delete(DeleteImageRequest { name: name.to_owned(), sync, target }).await
    }

    async fn delete(&self, request: DeleteImageRequest) -> Result<()> {
        let name = request.name.clone();
        let call = Call::collecting("delete image", &name, request.sync);
        let mut service = self.images_service();
        self.unary(call, request, |request| service.delete(request)).await
    }
}

impl Image {
    fn from_wire(call: Call<'_>, image: Option<WireImage>) -> Result<Self> {
        let image = call.required(image, "image")?;
        Ok(Self {
            name: image.name,
            labels: wire::sorted(image.labels),
            target: call.required(image.target, "target")?.into(),
            created_at: wire::recorded_instant(image.created_at),
            updated_at: wire::recorded_instant(image.updated_at),
        })
    }
}
