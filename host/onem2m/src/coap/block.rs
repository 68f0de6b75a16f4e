//! The values of the options Block1 and Block2 (RFC 7959 clause 2.2).

use super::options::Options;
use super::parameters::Refusal;
use crate::binding::bad;

/// The largest exponent: 1024 bytes.
pub const MAX_EXPONENT: u8 = 6;

/// A block of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Number of the block, from 0 on.
    pub number: u32,
    /// Whether more blocks follow.
    pub more: bool,
    /// Exponent of the size (SZX), 0 to 6.
    pub exponent: u8,
}

impl Block {
    /// Parses the option `number` of a message.
    ///
    /// # Errors
    /// Returns an error if the option occurs more than once, is longer than 3 bytes, or has the
    /// reserved size.
    pub fn read(options: &Options, number: u16) -> Result<Option<Self>, Refusal> {
        let Some(value) = options.uint(number, 3)? else { return Ok(None) };
        let exponent = u8::try_from(value & 7).unwrap_or(u8::MAX);
        if exponent > MAX_EXPONENT {
            return Err(bad(format!("the option {number} has the reserved block size 7")).into());
        }
        Ok(Some(Self { number: value >> 4, more: value & 8 != 0, exponent }))
    }

    /// Adds the option `number` to a message.
    pub fn write(self, options: &mut Options, number: u16) {
        let flags = u32::from(self.more) << 3 | u32::from(self.exponent);
        options.push_uint(number, self.number << 4 | flags);
    }

    /// Returns the size of the block, in bytes. The last block may be smaller.
    #[must_use]
    pub fn size(self) -> usize {
        16 << self.exponent
    }

    /// Returns the offset of the block in the body.
    #[must_use]
    pub fn offset(self) -> usize {
        // 20 bits and a shift of at most 10 fit.
        usize::try_from(self.number).unwrap_or(usize::MAX).saturating_mul(self.size())
    }
}
