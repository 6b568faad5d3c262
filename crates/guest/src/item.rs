//! Bodies that are a sequence of items.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::frame::FrameError;

/// Appends one item to a body that is a sequence of items.
pub fn put_item<T: Serialize>(item: &T, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let bytes = postcard::to_stdvec(item).map_err(|error| FrameError::Malformed(error.to_string()))?;
    out.extend_from_slice(&bytes);
    Ok(())
}

/// Takes one item from the front of a body that is a sequence of items; `None` at its end.
pub fn take_item<T: DeserializeOwned>(body: &mut &[u8]) -> Result<Option<T>, FrameError> {
    if body.is_empty() {
        return Ok(None);
    }
    let (item, rest) =
        postcard::take_from_bytes(body).map_err(|error| FrameError::Malformed(error.to_string()))?;
    *body = rest;
    Ok(Some(item))
}
