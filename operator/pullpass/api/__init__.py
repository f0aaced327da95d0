"""What users write and read: the two kinds, their conditions, the names of labels and annotations."""
