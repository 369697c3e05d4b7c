//! nerdctl's folders, files, labels and locks.
