//! The same day here and with dockerd 29: what is printed otherwise, and why.

use e2e::host::{ContainerdVersion, Engine, Plan};
use e2e::{Result, anyhow, ensure};

use crate::explained::{EXPLAINED, EXPLAINED_ON_1_6};
use crate::mask::Masks;
use crate::{Shown, say, show};

/// Plays both, and shows what differs.
///
/// # Errors
/// When a day ends early; when a difference has no explanation, or an explanation no difference.
pub(crate) fn compare() -> Result<()> {
    let masks = Masks::new()?;
    let mut reasons = EXPLAINED.to_vec();
    if ContainerdVersion::from_environment()? == ContainerdVersion::V1_6 {
        reasons.extend(EXPLAINED_ON_1_6);
    }
    let (ours, theirs) = std::thread::scope(|scope| {
        let ours = scope.spawn(|| day(Engine::Nerdctld));
        let theirs = scope.spawn(|| day(Engine::Dockerd));
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<Vec<Shown>>>| {
            thread.join().map_err(|_| anyhow!("a day ended in a panic"))?
        };
        Ok::<_, e2e::Error>((join(ours)?, join(theirs)?))
    })?;
    say("What dockerd 29 prints (-), and nerdctld in its place (+)\n");
    let (mut alike, mut explained, mut unexplained) = (0, Vec::new(), Vec::new());
    for (ours, theirs) in ours.iter().zip(&theirs).filter(|(ours, _)| !ours.is_heading()) {
        let lines = |shown: &Shown| masks.lines(&shown.command, &shown.printed);
        let (expected, found) = (lines(theirs), lines(ours));
        if expected == found {
            alike += 1;
            continue;
        }
        say(&format!("\n$ {}\n{}", ours.command, difference(&expected, &found)));
        match reasons.iter().find(|(command, _)| *command == ours.command) {
            Some((command, why)) => {
                say(&format!("  because {why}\n"));
                explained.push(*command);
            }
            None => {
                say("  NOT EXPLAINED\n");
                unexplained.push(ours.command.as_str());
            }
        }
    }
    say(&format!(
        "\n{alike} commands alike, {} differ for a reason, {} without\n",
        explained.len(),
        unexplained.len()
    ));
    let stale: Vec<&str> =
        reasons.iter().map(|(command, _)| *command).filter(|it| !explained.contains(it)).collect();
    ensure!(unexplained.is_empty(), "not explained: {unexplained:#?}");
    ensure!(stale.is_empty(), "explained and no longer different: {stale:#?}");
    Ok(())
}

fn day(engine: Engine) -> Result<Vec<Shown>> {
    let mut all = Vec::new();
    show(Plan { engine, ..Plan::from_environment()? }, &mut |shown| all.push(shown))?;
    Ok(all)
}

impl Shown {
    fn is_heading(&self) -> bool {
        self.command.starts_with('#')
    }
}

/// The lines that only one of both has, in order (by the longest common sequence), each with its sign.
fn difference(expected: &[String], found: &[String]) -> String {
    let mut common = vec![vec![0; found.len() + 1]; expected.len() + 1];
    for (i, one) in expected.iter().enumerate().rev() {
        for (j, other) in found.iter().enumerate().rev() {
            common[i][j] = if one == other {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut text) = (0, 0, String::new());
    while i < expected.len() || j < found.len() {
        if i < expected.len() && j < found.len() && expected[i] == found[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == found.len() || (i < expected.len() && common[i + 1][j] >= common[i][j + 1]) {
            text += &format!("- {}\n", expected[i]);
            i += 1;
        } else {
            text += &format!("+ {}\n", found[j]);
            j += 1;
        }
    }
    text
}
