//! One chain of what an authority answered: the leaf, what stands between, and the root apart.

use std::collections::{HashSet, VecDeque};

use chancery_issuance::{Certificate, KeyUsage};

use super::Signed;

/// More certificates beside the leaf are not looked at: comparing them takes time with the square of their number.
const MOST: usize = 32;

/// The longest text that is looked at, in bytes of PEM.
pub(super) const LONGEST: usize = 95_000;

/// Why certificates make no chain.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ChainError {
    /// Some do not stand above the leaf.
    #[error("certificate chain is malformed or broken")]
    Broken,
    /// There are too many.
    #[error(
        "certificate chain is too long: {0} certificates beside the leaf, of which at most {MOST} are taken"
    )]
    TooMany(usize),
}

/// Orders what stands above a leaf. The order in which it came does not matter, nor do repetitions.
///
/// All of it must stand above the leaf, by names and signatures. Where there are several ways up, since an authority is
/// certified by several others, the shortest to a self-signed root is taken, and what stands on the others is left out.
pub(super) fn build(leaf: Certificate, mut others: Vec<Certificate>) -> Result<Signed, ChainError> {
    let mut known = HashSet::from([leaf.der().to_vec()]);
    others.retain(|one| known.insert(one.der().to_vec()));
    if others.len() > MOST {
        return Err(ChainError::TooMany(others.len()));
    }
    let above = climb(&leaf, &others)?;
    let mut certificate = lines(&leaf);
    let mut ca = leaf.is_self_signed().then(|| certificate.clone());
    for one in above {
        let pem = lines(one);
        if !one.is_self_signed() {
            certificate.extend_from_slice(&pem);
        }
        ca = Some(pem);
    }
    Ok(Signed { certificate, ca })
}

/// From the leaf's issuer to the top, breadth first.
fn climb<'a>(leaf: &Certificate, others: &'a [Certificate]) -> Result<Vec<&'a Certificate>, ChainError> {
    // Where each was come to from: `None` is the leaf.
    let mut from: Vec<Option<Option<usize>>> = vec![None; others.len()];
    let mut ahead = VecDeque::from([None]);
    let (mut root, mut last) = (None, None);
    while let Some(at) = ahead.pop_front() {
        let child = at.and_then(|at: usize| others.get(at)).unwrap_or(leaf);
        if child.is_self_signed() {
            root = root.or(at);
            continue;
        }
        for (index, (candidate, from)) in others.iter().zip(&mut from).enumerate() {
            if from.is_none() && is_above(candidate, child) {
                *from = Some(at);
                last = Some(index);
                ahead.push_back(Some(index));
            }
        }
    }
    if from.iter().any(Option::is_none) {
        return Err(ChainError::Broken);
    }
    let mut way = Vec::new();
    let mut at = root.or(last);
    while let Some(index) = at {
        way.extend(others.get(index));
        at = from.get(index).copied().flatten().flatten();
    }
    way.reverse();
    Ok(way)
}

fn is_above(parent: &Certificate, child: &Certificate) -> bool {
    let may_sign = parent.is_ca()
        && parent.key_usage().is_none_or(|usage| usage.contains(KeyUsage::from_names(&["CertSign"])));
    may_sign && parent.subject_der() == child.issuer_der() && child.is_signed_by(parent)
}

/// A PEM block that ends its line.
fn lines(certificate: &Certificate) -> Vec<u8> {
    let mut pem = certificate.pem().trim_end().as_bytes().to_vec();
    pem.push(b'\n');
    pem
}

#[cfg(test)]
mod tests {
    use super::super::tests::Authority;
    use super::*;

    fn pem(parts: &[&Certificate]) -> Vec<u8> {
        parts.iter().flat_map(|part| lines(part)).collect()
    }

    #[test]
    fn the_root_stands_apart_whatever_order_things_came_in() {
        let root = Authority::root("root");
        let middle = root.below("middle");
        let low = middle.below("low");
        let leaf = low.leaf("a.example").1;
        let (root, middle, low) = (root.certificate, middle.certificate, low.certificate);
        let expected = Signed { certificate: pem(&[&leaf, &low, &middle]), ca: Some(pem(&[&root])) };
        for others in [
            vec![&low, &middle, &root],
            vec![&root, &low, &middle],
            vec![&middle, &root, &low, &low, &leaf, &root],
        ] {
            let others = others.into_iter().cloned().collect();
            assert_eq!(build(leaf.clone(), others).unwrap(), expected);
        }
        let without = build(leaf.clone(), vec![middle.clone(), low.clone()]).unwrap();
        assert_eq!(without.certificate, pem(&[&leaf, &low, &middle]));
        assert_eq!(without.ca, Some(pem(&[&middle])));
        assert_eq!(build(leaf.clone(), vec![]).unwrap(), Signed { certificate: pem(&[&leaf]), ca: None });
        let alone = build(root.clone(), vec![]).unwrap();
        assert_eq!(alone, Signed { certificate: pem(&[&root]), ca: Some(pem(&[&root])) });
    }

    #[test]
    fn what_does_not_stand_above_the_leaf_breaks_the_chain() {
        let root = Authority::root("root");
        let leaf = root.leaf("a.example").1;
        let stranger = Authority::root("stranger").certificate;
        // The same name with another key.
        let namesake = Authority::root("root").certificate;
        for others in [
            vec![stranger.clone()],
            vec![root.certificate.clone(), stranger],
            vec![root.certificate.clone(), namesake],
            vec![root.certificate.clone(), root.leaf("b.example").1],
        ] {
            assert_eq!(build(leaf.clone(), others).unwrap_err(), ChainError::Broken);
        }
        let many: Vec<_> = (0..33).map(|_| root.leaf("b.example").1).collect();
        assert_eq!(build(leaf, many).unwrap_err(), ChainError::TooMany(33));
    }

    #[test]
    fn of_several_ways_up_the_shortest_to_a_root_is_taken() {
        let (old, new) = (Authority::root("old"), Authority::root("new"));
        let middle = old.below("middle");
        let leaf = middle.leaf("a.example").1;
        // The new root, certified by the old one and by itself, has certified the same key too.
        let by_old = old.certify(&new);
        let again = new.certify(&middle);
        let others =
            vec![again, by_old, new.certificate.clone(), middle.certificate.clone(), old.certificate];
        let built = build(leaf.clone(), others).unwrap();
        let text = String::from_utf8(built.certificate).unwrap();
        assert_eq!(text.matches("BEGIN").count(), 2, "{text}");
        assert!(built.ca.is_some());
    }
}
