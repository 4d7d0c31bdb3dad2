//! One process and its card.
