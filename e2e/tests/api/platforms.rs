//! Images of several platforms, and what is attested of them: chosen, kept, removed one by one.

use e2e::api::{Image, encode};
use e2e::{Context as _, Result, Rig, Test, ensure, tests, unique};
use serde_json::{Value, json};

use crate::store::{archive, files, inspect, loaded, made, refused, save, sha256};

pub(crate) const TESTS: &[Test] =
    tests![platforms_are_chosen, single_platforms_are_removed, attestations_are_kept_and_shown,];

fn platforms_are_chosen(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let name = format!("{}:1", unique("platform"));
    let image = made(&api, Some(&name))?;
    let of = inspect(&api, &name)?;
    let here = json!({"os": of["Os"], "architecture": of["Architecture"]});
    let here = format!("platform={}", encode(&here.to_string()));
    let archive = save(&api, &format!("names={name}&{here}"))?;
    drop(image);
    let other = format!("platform={}", encode(r#"{"os":"linux","architecture":"s390x"}"#));
    let error = refused(&api, &other, archive.clone())?;
    ensure!(error.contains("linux/s390x"), "{error}");
    let lines = loaded(&api, &here, archive)?;
    let _image = Image { api: api.clone(), name: name.clone() };
    ensure!(lines == [format!("Loaded image: {name}\n")], "{lines:?}");
    let request = api.request("POST", "/images/load?platform=nonsense").bytes(b"x".to_vec());
    api.send(&request)?.expect_error(400)?;
    Ok(())
}

/// An OCI layout of an index: one image, and what is attested of it.
fn attested(name: &str) -> Result<(Vec<u8>, Value)> {
    let layer = archive(&[("file", name.as_bytes().to_vec())])?;
    let statement = json!({"_type": "https://in-toto.io/Statement/v0.1", "subject": []});
    let statement = statement.to_string().into_bytes();
    let mut blobs: Vec<(String, Vec<u8>)> = Vec::new();
    let mut store = |kind: &str, bytes: Vec<u8>| -> Result<Value> {
        let sum = sha256(&bytes)?;
        let entry =
            json!({"mediaType": kind, "digest": format!("sha256:{sum}"), "size": bytes.len()});
        blobs.push((format!("blobs/sha256/{sum}"), bytes));
        Ok(entry)
    };
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let config_type = "application/vnd.oci.image.config.v1+json";
    let mut manifest = |os: &str, layer: Value, diff_id: Value| -> Result<Value> {
        let config = json!({
            "architecture": if os == "linux" { "amd64" } else { os }, "os": os,
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        });
        let config = store(config_type, config.to_string().into_bytes())?;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": [layer],
        });
        store(manifest_type, manifest.to_string().into_bytes())
    };
    let described = |kind: &str, bytes: &[u8]| -> Result<Value> {
        Ok(
            json!({"mediaType": kind, "digest": format!("sha256:{}", sha256(bytes)?), "size": bytes.len()}),
        )
    };
    let layer_entry = described("application/vnd.oci.image.layer.v1.tar", &layer)?;
    let mut image = manifest("linux", layer_entry.clone(), layer_entry["digest"].clone())?;
    image["platform"] = json!({"architecture": "amd64", "os": "linux"});
    let mut statement_entry = described("application/vnd.in-toto+json", &statement)?;
    statement_entry["annotations"] =
        json!({"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"});
    let mut attestation =
        manifest("unknown", statement_entry.clone(), statement_entry["digest"].clone())?;
    attestation["platform"] = json!({"architecture": "unknown", "os": "unknown"});
    attestation["annotations"] = json!({
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": image["digest"],
    });
    let index_type = "application/vnd.oci.image.index.v1+json";
    let index = json!({
        "schemaVersion": 2, "mediaType": index_type, "manifests": [image, attestation],
    });
    let mut target = store(index_type, index.to_string().into_bytes())?;
    target["annotations"] =
        json!({"io.containerd.image.name": format!("docker.io/library/{name}")});
    let top = json!({"schemaVersion": 2, "manifests": [target]}).to_string().into_bytes();
    let path = |entry: &Value| -> String {
        format!("blobs/{}", entry["digest"].as_str().unwrap_or_default().replace(':', "/"))
    };
    blobs.push((path(&layer_entry), layer));
    blobs.push((path(&statement_entry), statement));
    blobs.push(("index.json".to_owned(), top));
    blobs.push(("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
    let files: Vec<(&str, Vec<u8>)> =
        blobs.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    Ok((archive(&files)?, statement_entry))
}

fn attestations_are_kept_and_shown(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let name = format!("{}:1", unique("attested"));
    let (archive, statement) = attested(&name)?;
    let lines = loaded(&api, "", archive)?;
    let _image = Image { api: api.clone(), name: name.clone() };
    ensure!(lines == [format!("Loaded image: {name}\n")], "{lines:?}");
    let of = format!("/images/{name}/attestations");
    let shown = api.get_json(&of)?;
    ensure!(
        shown[0]["Descriptor"]["digest"] == statement["digest"]
            && shown[0]["PredicateType"] == "https://slsa.dev/provenance/v0.2"
            && shown[0].get("Statement").is_none(),
        "{shown}"
    );
    let full = api.get_json(&format!("{of}?statement=1"))?;
    ensure!(full[0]["Statement"]["_type"] == "https://in-toto.io/Statement/v0.1", "{full}");
    ensure!(api.get_json(&format!("{of}?type=other"))? == json!([]));
    api.get("/images/nothing-like-it/attestations")?.expect_error(404)?;
    let kinds = api.get_json(&format!("/images/{name}/json?manifests=1"))?;
    let kinds: Vec<&Value> =
        kinds["Manifests"].as_array().context("no Manifests")?.iter().map(|m| &m["Kind"]).collect();
    ensure!(kinds == ["image", "attestation"], "{kinds:?}");
    // A saved archive has them, too.
    let saved = files(&save(&api, &format!("names={name}"))?)?;
    let path = statement["digest"].as_str().unwrap_or_default().replace(':', "/");
    ensure!(saved.iter().any(|(known, _)| *known == format!("blobs/{path}")));
    Ok(())
}

fn single_platforms_are_removed(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let name = format!("{}:1", unique("single"));
    let (archive, _) = attested(&name)?;
    loaded(&api, "", archive.clone())?;
    let _image = Image { api: api.clone(), name: name.clone() };
    let of = api.get_json(&format!("/images/{name}/json?manifests=1"))?;
    let manifest = of["Manifests"][0]["ID"].clone();
    let platform = |architecture: &str| {
        encode(&json!({"os": "linux", "architecture": architecture}).to_string())
    };
    let path = |architecture: &str, force: &str| {
        format!("/images/{name}?platforms={}{force}", platform(architecture))
    };
    let text = api.delete(&path("amd64", ""))?.expect_error(400)?;
    ensure!(text.starts_with("Content will be removed from all images"), "{text}");
    api.delete(&path("s390x", "&force=1"))?.expect_error(404)?;
    let removed = api.delete(&path("amd64", "&force=1"))?.expect(200)?.json()?;
    ensure!(removed == json!([{"Deleted": manifest}]), "{removed}");
    let left = api.get_json(&format!("/images/{name}/json?manifests=1"))?;
    ensure!(left["Manifests"][0]["Available"] == false, "{left}");
    loaded(&api, "", archive)?;
    let back = api.get_json(&format!("/images/{name}/json?manifests=1"))?;
    ensure!(back["Manifests"][0]["Available"] == true, "{back}");
    Ok(())
}
