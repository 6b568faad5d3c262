//! Git patches against a baseline tree.
