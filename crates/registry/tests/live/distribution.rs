//! Debian's docker-registry: references, manifests, blobs, tags, doors.

use registry::{Access, Credentials, Error};

use super::server::{Door, MANIFEST, Server};
use super::setting::{anonymous, login, read, registry, with_hosts, with_password, write_hosts};

#[tokio::test]
async fn an_image_is_resolved_and_read() {
    let Some(server) = Server::start("an_image_is_resolved_and_read", Door::Open) else { return };
    let pushed = server.push("team/app", &["v1", "v2"], &[]);
    let repository = anonymous(&server.image("team/app:v1")).await;

    let found = repository.resolve().await.unwrap();
    assert_eq!(
        (&found.digest, found.media_type.as_str(), found.size),
        (&pushed.digest, MANIFEST, pushed.manifest.len() as u64)
    );
    let by_digest = anonymous(&server.image(&format!("team/app@{}", pushed.digest))).await;
    assert_eq!(by_digest.resolve().await.unwrap(), found);

    let manifest = repository.manifest(&found.digest).await.unwrap();
    assert_eq!((manifest.bytes.as_ref(), &manifest.descriptor), (&pushed.manifest[..], &found));
    let size = pushed.layer.len() as u64;
    let whole = repository.blob(&pushed.layer_digest, size, 0).await.unwrap();
    assert!(read(whole).await.unwrap() == pushed.layer);
    let rest = repository.blob(&pushed.layer_digest, size, 123_456).await.unwrap();
    assert_eq!(rest.offset(), 123_456);
    assert!(read(rest).await.unwrap() == pushed.layer[123_456..]);
    let nothing = repository.blob(&pushed.layer_digest, size, size).await.unwrap();
    assert_eq!(read(nothing).await.unwrap(), b"");
    assert_eq!(repository.tags().await.unwrap(), ["v1", "v2"]);
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let Some(server) = Server::start("what_is_not_there_is_not_found", Door::Open) else { return };
    server.push("app", &["v1"], &[]);
    let image = server.image("app:v2");
    let error = anonymous(&image).await.resolve().await.unwrap_err();
    assert_eq!(error.to_string(), format!("{image}: not found"));
    assert!(matches!(error, Error::NotFound { .. }));
    let error = anonymous(&server.image("ghost")).await.tags().await.unwrap_err();
    assert!(
        matches!(&error, Error::NotFound { answer, .. } if answer.code == "NAME_UNKNOWN"),
        "{error:?}"
    );
    let repository = anonymous(&server.image("app:v1")).await;
    let missing = super::server::digest(b"missing");
    let error = repository.manifest(&missing).await.unwrap_err();
    assert!(
        matches!(&error, Error::NotFound { answer, .. } if answer.code == "MANIFEST_UNKNOWN"),
        "{error:?}"
    );
    assert!(matches!(repository.blob(&missing, 7, 0).await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn a_password_opens_the_door() {
    let Some(server) = Server::start("a_password_opens_the_door", Door::Password) else { return };
    // ann:secret
    let pushed = server.push("app", &["latest"], &[("Authorization", "Basic YW5uOnNlY3JldA==")]);
    let image = server.image("app");

    assert_eq!(
        with_password(&image, "ann", "secret").await.resolve().await.unwrap().digest,
        pushed.digest
    );
    let error = with_password(&image, "ann", "wrong").await.resolve().await.unwrap_err();
    assert!(matches!(&error, Error::Unauthorized { .. }), "{error:?}");
    assert_eq!(error.to_string(), "unauthorized: authentication required");
    assert!(matches!(anonymous(&image).await.resolve().await, Err(Error::NoCredentials { .. })));
    let elsewhere = Credentials {
        server_address: "https://index.docker.io/v1/".to_owned(),
        ..login("ann", "secret")
    };
    let repository = registry()
        .repository(&image, Access { credentials: Some(elsewhere), ..Access::default() })
        .await
        .unwrap();
    assert!(
        matches!(repository.resolve().await, Err(Error::NoCredentials { .. })),
        "Docker Hub's password is not for this host"
    );
}

#[tokio::test]
async fn a_login_is_checked() {
    let Some(server) = Server::start("a_login_is_checked", Door::Password) else { return };
    let at = |password: &str, address: &str| Credentials {
        server_address: address.to_owned(),
        ..login("ann", password)
    };
    for address in [server.address.clone(), format!("http://{}/v2/", server.address)] {
        registry().check_login(&at("secret", &address)).await.unwrap();
    }
    let error = registry().check_login(&at("wrong", &server.address)).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error:?}");
}

#[tokio::test]
async fn a_certificate_must_be_vouched_for() {
    let Some(server) = Server::start("a_certificate_must_be_vouched_for", Door::Tls) else {
        return;
    };
    let image = server.image("app");
    let root = tempfile::tempdir().unwrap();
    let folder = server.address.replace(':', "_") + "_";
    let server_line = format!("server = \"https://{}\"\n", server.address);
    let resolve = || async {
        let repository =
            with_hosts(root.path()).repository(&image, Access::default()).await.unwrap();
        repository.resolve().await.unwrap_err()
    };

    write_hosts(root.path(), &folder, &server_line);
    let error = resolve().await;
    assert!(matches!(error, Error::Tls { .. }), "nobody vouches for it: {error:?}");
    write_hosts(root.path(), &folder, &format!("{server_line}skip_verify = true\n"));
    assert!(matches!(resolve().await, Error::NotFound { .. }));
    std::fs::copy(server.directory().join("ca.pem"), root.path().join(&folder).join("ca.pem"))
        .unwrap();
    write_hosts(root.path(), &folder, &format!("{server_line}ca = \"ca.pem\"\n"));
    assert!(matches!(resolve().await, Error::NotFound { .. }));
    write_hosts(root.path(), &folder, &format!("{server_line}ca = \"missing.pem\"\n"));
    assert!(matches!(resolve().await, Error::Certificate { .. }));
    assert!(
        matches!(anonymous(&image).await.resolve().await, Err(Error::NotFound { .. })),
        "a local registry needs no certificate"
    );
}
