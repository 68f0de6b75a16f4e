//! The messages of a datagram.

/// The result of a datagram for an association.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// The messages in it. A datagram that is not authentic has none.
    Messages(Vec<Vec<u8>>),
    /// The peer closed the association.
    Closed,
}
