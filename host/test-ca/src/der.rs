//! DER encodings that rcgen does not provide.

use crate::TrialError;

pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(crate) const RELATIVE_OID: u8 = 0x0D;
pub(crate) const SEQUENCE: u8 = 0x30;
/// Tag of a context-specific element, `[0]` and up.
pub(crate) const CONTEXT: u8 = 0x80;
/// Bit of constructed elements.
pub(crate) const CONSTRUCTED: u8 = 0x20;

/// Encodes an element: tag, length, content.
pub(crate) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut der = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => der.push(short),
        _ => {
            let length = content.len().to_be_bytes();
            let length: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
            // A length has at most eight bytes.
            der.push(0x80 | u8::try_from(length.len()).unwrap_or(8));
            der.extend(length);
        }
    }
    der.extend(content);
    der
}

/// Parses the arcs of an object identifier, or of the rest of one.
pub(crate) fn arcs(text: &str) -> Result<Vec<u64>, TrialError> {
    let arcs: Result<Vec<u64>, _> = text.split('.').map(str::parse).collect();
    arcs.map_err(|_| TrialError::Oid(text.into()))
}

/// Encodes an object identifier.
pub(crate) fn oid(text: &str) -> Result<Vec<u8>, TrialError> {
    match *arcs(text)?.as_slice() {
        [top @ 0..=2, second, ref rest @ ..] if top == 2 || second < 40 => {
            let first = second.checked_add(top * 40).ok_or_else(|| TrialError::Oid(text.into()))?;
            let all = [&[first], rest].concat();
            Ok(element(OBJECT_IDENTIFIER, &base128(&all)))
        }
        _ => Err(TrialError::Oid(text.into())),
    }
}

/// Encodes the rest of an object identifier.
pub(crate) fn relative_oid(text: &str) -> Result<Vec<u8>, TrialError> {
    Ok(element(RELATIVE_OID, &base128(&arcs(text)?)))
}

/// Encodes arcs with seven bits a byte. All bytes of an arc but the last are marked.
fn base128(arcs: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for arc in arcs {
        let significant = (u64::BITS - arc.leading_zeros()).max(1).div_ceil(7);
        for at in (0..significant).rev() {
            let more = if at == 0 { 0 } else { 0x80 };
            let low = arc >> (7 * at) & 0x7F;
            // Seven bits fit into a byte.
            bytes.push(more | u8::try_from(low).unwrap_or_default());
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_as_short_as_can_be() {
        assert_eq!(element(4, &[]), [4, 0]);
        assert_eq!(element(4, &[7; 127])[..3], [4, 127, 7]);
        assert_eq!(element(4, &[7; 128])[..4], [4, 0x81, 128, 7]);
        assert_eq!(element(4, &[7; 256])[..5], [4, 0x82, 1, 0, 7]);
    }

    #[test]
    fn object_identifiers_are_written() {
        assert_eq!(oid("1.2.840.113549").unwrap(), [6, 6, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D]);
        assert_eq!(oid("0.2.481.1").unwrap(), [6, 4, 2, 0x83, 0x61, 1]);
        assert_eq!(oid("2.999").unwrap(), [6, 2, 0x88, 0x37]);
        assert_eq!(relative_oid("100.0.300").unwrap(), [13, 4, 100, 0, 0x82, 0x2C]);
        for bad in ["", "1", "1.", "3.1", "1.40", "1.x", "1.-1", "1.18446744073709551616"] {
            assert!(oid(bad).is_err(), "{bad}");
        }
    }
}
