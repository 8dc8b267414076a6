//go:build !unix

package vfs

// nonblock is nothing where there are no named pipes in directories.
const nonblock = 0
