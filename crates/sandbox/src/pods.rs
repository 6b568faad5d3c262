//! Sandboxes as pods.

mod link;
