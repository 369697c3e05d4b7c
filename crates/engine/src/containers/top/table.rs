//! Reading what `ps` prints.

use std::collections::BTreeSet;

use super::ProcessTable;
use super::ps::TopError;

/// Take the rows of these processes out of `ps`'s output (moby `daemon/top_unix.go`, `parsePSOutput`).
pub(super) fn parse(output: &str, processes: &BTreeSet<u32>) -> Result<ProcessTable, TopError> {
    let mut lines = output.lines();
    let titles: Vec<String> = fields(lines.next().unwrap_or_default()).map(str::to_owned).collect();
    let pid = titles.iter().position(|title| title == "PID").ok_or(TopError::NoPid)?;
    let mut table = ProcessTable { titles, processes: Vec::new() };
    let mut before_is_its_own = false;
    for line in lines {
        let fields: Vec<&str> = fields(line).collect();
        let Some(&given) = fields.get(pid) else { continue };
        // A thread, below its process.
        if given == "-" {
            if before_is_its_own {
                table.processes.push(row(&fields, table.titles.len()));
            }
            continue;
        }
        let number: u32 =
            given.parse().map_err(|_| TopError::UnexpectedPid { given: given.to_owned() })?;
        before_is_its_own = processes.contains(&number);
        if before_is_its_own {
            table.processes.push(row(&fields, table.titles.len()));
        }
    }
    Ok(table)
}

/// As many texts as there are columns; the last one has the rest.
fn row(fields: &[&str], columns: usize) -> Vec<String> {
    let last = columns.saturating_sub(1).min(fields.len());
    let (first, rest) = fields.split_at(last);
    first.iter().map(|field| (*field).to_owned()).chain([rest.join(" ")]).collect()
}

/// Separated by ASCII blanks only: other ones are part of a text.
fn fields(line: &str) -> impl Iterator<Item = &str> {
    line.split_ascii_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EF: &str = "\
UID          PID    PPID  C STIME TTY          TIME CMD
root          42       1  0 09:00 ?        00:00:00 sleep  1000
root          43      42  0 09:00 ?        00:00:00 sh -c x y
root          99       1  0 09:00 ?        00:00:00 other

";

    #[test]
    fn rows_of_the_containers_processes() {
        let table = parse(EF, &[42, 43].into()).unwrap();
        assert_eq!(table.titles, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
        assert_eq!(
            table.processes,
            [
                ["root", "42", "1", "0", "09:00", "?", "00:00:00", "sleep 1000"],
                ["root", "43", "42", "0", "09:00", "?", "00:00:00", "sh -c x y"],
            ]
        );
        assert!(parse(EF, &BTreeSet::new()).unwrap().processes.is_empty());
    }

    #[test]
    fn threads_follow_their_process() {
        let output = "  PID COMMAND\n   42 sleep\n    - -\n   99 other\n    - -\n";
        let table = parse(output, &[42].into()).unwrap();
        assert_eq!(table.processes, [["42", "sleep"], ["-", "-"]]);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        assert_eq!(
            parse("COMMAND\nsh\n", &[1].into()).unwrap_err().to_string(),
            "Couldn't find PID field in ps output"
        );
        assert_eq!(
            parse("PID\nsh\n", &[1].into()).unwrap_err().to_string(),
            "Unexpected pid 'sh': strconv.Atoi: parsing \"sh\": invalid syntax"
        );
        // Fewer columns than titles.
        let short = parse("PID A B\n1\n1 x\n", &[1].into()).unwrap();
        assert_eq!(short.processes, [vec!["1", ""], vec!["1", "x", ""]]);
    }
}
