//! Names for containers that nobody has named: `adjective_surname`, as Docker's users know them.
//!
//! The surnames are of people who made or used the machines that containers run on, or found what they rest on.

use names::ContainerName;

const ADJECTIVES: &str = "able alert amiable ample amused apt astute attentive balanced bold bright brisk calm candid \
    careful cheerful civil clear clever composed considerate constant content cordial curious daring dapper decent \
    deft diligent discreet eager earnest easy elegant exact fair faithful fearless fluent fond frank fresh friendly \
    gentle genuine glad graceful grateful handy happy hardy hearty helpful honest hopeful humble idle jolly jovial \
    joyful keen kind lively loyal lucid mellow merry mild modest neat nimble noble orderly patient peaceful playful \
    pleasant polite precise prompt proper proud prudent quick quiet ready relaxed reliable robust rustic serene \
    sharp silent simple sincere smooth sober solid sound spry stable steady stoic subtle sunny swift tactful tidy \
    tranquil trusty upbeat useful valiant vivid warm wakeful willing wise witty worthy zealous";

const SURNAMES: &str = "abbe aiken allen ampere anning archimedes avicenna babbage backus bartik bernoulli blackwell \
    blum bohr boole borg brahe brooks bush cantor carson cerf chomsky church clarke codd conway cray curie darwin \
    davies descartes dijkstra dirac easley eckert edison einstein elion engelbart erdos euclid euler faraday feinler \
    fermat fermi feynman flowers floyd franklin galileo gauss germain godel goldberg goldstine gray hamilton hawking \
    heisenberg herschel hertz hilbert hoare hodgkin holberton hooke hopper huffman hypatia jackson johnson joule \
    kalman kay keller kepler kernighan khayyam kilby kleene knuth kolmogorov lagrange lamarr lamport laplace leibniz \
    liskov lovelace lumiere mauchly maxwell mccarthy meitner mendel milner minsky mirzakhani naur newell newton \
    nightingale noether noyce pascal pasteur perlis perlman planck poincare postel pythagoras ramanujan riemann \
    ritchie rivest sammet shamir shannon shaw simon sinoussi snyder spence stallman sutherland tesla thompson \
    torvalds turing varahamihira vaughan volta wiles wilkes wilson wing wirth wozniak wu yalow yao zuse";

/// How many names are tried before the short id is taken (moby `daemon/names.go`).
pub(super) const ATTEMPTS: usize = 6;

/// The name that `random` stands for. From the second attempt on a digit makes it rarer.
pub(super) fn name(random: [u8; 8], attempt: usize) -> Option<ContainerName> {
    let [a, b, c, d, digit, ..] = random;
    let adjective = pick(ADJECTIVES, u16::from_le_bytes([a, b]))?;
    let surname = pick(SURNAMES, u16::from_le_bytes([c, d]))?;
    let digit = if attempt == 0 { String::new() } else { (digit % 10).to_string() };
    format!("{adjective}_{surname}{digit}").parse().ok()
}

fn pick(words: &'static str, random: u16) -> Option<&'static str> {
    let count = words.split_ascii_whitespace().count();
    words.split_ascii_whitespace().nth(usize::from(random) % count)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_word_makes_a_valid_name_and_none_is_there_twice() {
        for words in [ADJECTIVES, SURNAMES] {
            let all: Vec<_> = words.split_ascii_whitespace().collect();
            assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
            assert!(all.len() > 100, "few words make few names: {}", all.len());
            assert!(all.iter().all(|word| word.bytes().all(|byte| byte.is_ascii_lowercase())));
        }
    }

    #[test]
    fn a_digit_comes_with_the_second_attempt() {
        assert_eq!(name([0; 8], 0).unwrap().as_str(), "able_abbe");
        assert_eq!(name([1, 0, 1, 0, 17, 0, 0, 0], 1).unwrap().as_str(), "alert_aiken7");
        assert!(name([0xff; 8], 0).is_some());
    }
}
