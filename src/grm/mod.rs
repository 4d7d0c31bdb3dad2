//! Genomic relationships.
