// Package tree turns a directory tree of Linux into a pxar archive ([Create])
// and an archive into a tree ([Extract]).
//
// A tree is alive while it is archived, and it may belong to somebody who is
// not our friend. Everything is therefore opened relative to the descriptor of
// the directory it lies in, and never through a symlink; what vanishes, grows
// or fails meanwhile costs that file only and is named in the [Report]. An
// archive may be hostile, too: extracting one touches nothing outside of the
// target, and one bad chunk costs one file.
//
// One goroutine walks, several read ahead or write, in numbers that bound
// memory and descriptors whatever the size, width and depth of the tree. What
// the format keeps of a file is described in pxar notes §2 and
// §3, to which the section numbers in comments refer.
//
// The package works on Linux. Elsewhere its functions fail with
// errors.ErrUnsupported.
package tree
