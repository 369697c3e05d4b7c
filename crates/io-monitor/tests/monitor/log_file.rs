//! The log as nerdctl's configuration asks for it.

use std::time::Duration;

use crate::rig::{BOTH, Container, Shim, entries, until};

#[tokio::test]
async fn driver_none_writes_nothing_and_streams_all() {
    let container = Container::with(false, r#"{"driver":"none"}"#);
    let monitor = container.spawn().await;
    let mut client = monitor.attach(BOTH).await;
    assert_eq!(client.mark, None);
    assert!(!monitor.connect().await.hello().logs);
    let mut shim = Shim::open(&container);
    monitor.started().await;
    shim.out("not kept");
    assert_eq!(client.read(8).await, "not kept");
    drop(shim);
    client.rest().await;
    monitor.ends().await;
    assert!(!container.log_path().exists());
}

#[tokio::test]
async fn rotation_loses_nothing() {
    let container = Container::with(
        false,
        r#"{"driver":"json-file","opts":{"max-size":"20k","max-file":"1000"}}"#,
    );
    let monitor = container.spawn().await;
    let mut shim = Shim::open(&container);
    monitor.started().await;
    let writer = tokio::task::spawn_blocking(move || {
        for number in 0..5_000 {
            shim.out(&format!("{number}\n"));
        }
    });
    writer.await.unwrap();
    monitor.ends().await;
    let mut texts = Vec::new();
    for number in 1.. {
        let path = container.options.state_dir.join(format!("c1-json.log.{number}"));
        if !path.exists() {
            break;
        }
        assert!(std::fs::metadata(&path).unwrap().len() <= 20_000);
        texts.extend(entries(&path));
    }
    assert!(texts.len() > 4_000, "it was rotated");
    texts.extend(container.logged());
    assert!(
        texts
            .iter()
            .map(|(_, text)| text.clone())
            .eq((0..5_000).map(|number| format!("{number}\n")))
    );
}

#[tokio::test]
async fn long_lines_are_parts_of_16_kib() {
    let container = Container::new();
    let monitor = container.spawn().await;
    let mut shim = Shim::open(&container);
    monitor.started().await;
    let writer = tokio::task::spawn_blocking(move || {
        // As a process writes that fills its line slowly, across wake-ups of the monitor.
        for _ in 0..20 {
            shim.out(&"z".repeat(2_500));
            std::thread::sleep(Duration::from_millis(5));
        }
        shim.out("\nshort\n");
    });
    writer.await.unwrap();
    monitor.ends().await;
    let lengths: Vec<usize> = container.logged().iter().map(|(_, text)| text.len()).collect();
    assert_eq!(lengths, [16_384, 16_384, 16_384, 50_000 - 3 * 16_384 + 1, 6]);
}

#[tokio::test]
async fn a_line_that_grows_slowly_is_logged_once_and_whole() {
    let container = Container::new();
    let monitor = container.spawn().await;
    let mut shim = Shim::open(&container);
    monitor.started().await;
    for piece in ["slow", " and", " steady", "\n"] {
        shim.out(piece);
        // Longer than the beginning of a line stays in the FIFO.
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    until("logged", || !container.logged().is_empty()).await;
    drop(shim);
    monitor.ends().await;
    assert_eq!(container.logged(), [("stdout".into(), "slow and steady\n".into())]);
}

#[tokio::test]
async fn a_log_on_a_full_disk_does_not_stop_the_container() {
    let dir = tempfile::tempdir().unwrap();
    let mount = dir.path().join("small");
    std::fs::create_dir(&mount).unwrap();
    let Ok(_mounted) = Mounted::tmpfs(&mount, 64) else {
        println!("skipped: no right to mount a tmpfs");
        return;
    };
    let log = mount.join("small.log");
    let config = format!(r#"{{"driver":"json-file","opts":{{"log-path":"{}"}}}}"#, log.display());
    let container = Container::with(false, &config);
    let monitor = container.spawn().await;
    let mut client = monitor.attach(BOTH).await;
    let mut shim = Shim::open(&container);
    monitor.started().await;
    let filler = mount.join("filler");
    std::fs::write(&filler, vec![0; 40_000]).unwrap();
    let writer = tokio::task::spawn_blocking(move || {
        for number in 0..5_000 {
            shim.out(&format!("{number:050}\n"));
        }
        shim
    });
    client.read(5_000 * 51).await;
    let mut shim = writer.await.unwrap();
    let stats = monitor.connect().await.stats().await.unwrap();
    assert!(stats.lost_lines > 0, "{stats:?}");
    assert!(stats.last_error.unwrap().contains("No space left"));
    std::fs::remove_file(filler).unwrap();
    shim.out("room again\n");
    drop(shim);
    client.rest().await;
    monitor.ends().await;
    let logged = entries(&log);
    let lost = logged.iter().position(|(stream, _)| stream == "stderr").expect("the loss is told");
    assert!(
        logged[lost]
            .1
            .starts_with(&format!("nerdctld: {} lines of output could not", stats.lost_lines))
    );
    assert_eq!(logged[lost + 1].1, "room again\n");
}

struct Mounted(std::path::PathBuf);

impl Mounted {
    fn tmpfs(at: &std::path::Path, kib: u32) -> Result<Self, rustix::io::Errno> {
        let data = std::ffi::CString::new(format!("size={kib}k")).unwrap();
        rustix::mount::mount(
            "tmpfs",
            at,
            "tmpfs",
            rustix::mount::MountFlags::empty(),
            data.as_c_str(),
        )?;
        Ok(Self(at.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}
