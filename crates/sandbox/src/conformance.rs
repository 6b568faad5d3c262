//! Behaviours that every backend shows.
