//! `/_ping`, `/version`, `/info`, negotiation, and what is refused.

use e2e::{Result, Rig, Test, ensure, tests};

pub(crate) const TESTS: &[Test] = tests![ping_says_ok];

fn ping_says_ok(rig: &Rig) -> Result<()> {
    let response = rig.host()?.api().get("/_ping")?.expect(200)?;
    ensure!(response.text() == "OK", "{}", response.text());
    Ok(())
}
