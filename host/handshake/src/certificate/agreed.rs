//! The result of a handshake with certificates.

use saegis_onem2m::exported::Exported;

/// The stream and the negotiated parameters of a finished handshake.
pub(super) struct Agreed<S> {
    pub(super) stream: std::pin::Pin<Box<dyn crate::TlsStream<S>>>,
    pub(super) protocol: &'static str,
    pub(super) suite: String,
    pub(super) resumed: bool,
    pub(super) exported: Option<Exported>,
}
