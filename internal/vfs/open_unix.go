//go:build unix

package vfs

import "syscall"

// nonblock keeps an open from waiting. It means nothing to files.
const nonblock = syscall.O_NONBLOCK
