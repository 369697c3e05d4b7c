//! Go's `path.Match`, for the `reference` filter: `*` and `?` stop at slashes, `[a-z]` is a class.

/// Whether the pattern matches all of `text`. A pattern that is none matches nothing.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    // Where to go on after a `*` that has taken too little: position in the pattern, and in the text.
    let mut retry: Option<(usize, usize)> = None;
    let (mut p, mut t) = (0, 0);
    loop {
        if pattern.get(p) == Some(&'*') {
            retry = Some((p + 1, t));
            p += 1;
            continue;
        }
        if p == pattern.len() && t == text.len() {
            return true;
        }
        if let Some(next) = text.get(t).and_then(|c| step(&pattern, p, *c)) {
            (p, t) = (next, t + 1);
            continue;
        }
        // Let the last `*` take one character more; it takes no slash.
        match retry {
            Some((after, from)) if text.get(from).is_some_and(|c| *c != '/') => {
                retry = Some((after, from + 1));
                (p, t) = (after, from + 1);
            }
            _ => return false,
        }
    }
}

/// Where the pattern goes on if its element at `at` matches `c`.
fn step(pattern: &[char], at: usize, c: char) -> Option<usize> {
    match pattern.get(at)? {
        '?' => (c != '/').then_some(at + 1),
        '[' => class(pattern, at + 1, c),
        '\\' => (pattern.get(at + 1) == Some(&c)).then_some(at + 2),
        literal => (*literal == c).then_some(at + 1),
    }
}

/// A class after its bracket: `^` negates, `a-z` is a range, `\` escapes.
fn class(pattern: &[char], mut at: usize, c: char) -> Option<usize> {
    let negated = pattern.get(at) == Some(&'^');
    at += usize::from(negated);
    let (mut found, mut first) = (false, true);
    loop {
        if pattern.get(at) == Some(&']') && !first {
            return (found != negated).then_some(at + 1);
        }
        first = false;
        let low = class_member(pattern, &mut at)?;
        let high = if pattern.get(at) == Some(&'-') {
            at += 1;
            class_member(pattern, &mut at)?
        } else {
            low
        };
        found |= (low..=high).contains(&c);
    }
}

fn class_member(pattern: &[char], at: &mut usize) -> Option<char> {
    if pattern.get(*at) == Some(&'\\') {
        *at += 1;
    }
    let member = *pattern.get(*at)?;
    *at += 1;
    Some(member)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn as_go_matches() {
        for (pattern, text, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a/b", false),
            ("a[^a]b", "a☺b", true),
            ("[", "a", false),
            ("[^", "a", false),
            ("[-", "a", false),
            ("", "", true),
            ("", "a", false),
            ("a", "", false),
            ("*x", "xxx", true),
            ("busy*:latest", "busybox:latest", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_nasty_pattern_ends() {
        let text = "a".repeat(5000);
        assert!(!matches(&format!("{}b", "*a".repeat(200)), &text));
    }
}
