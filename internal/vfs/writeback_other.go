//go:build !linux

package vfs

// StartWriteback is a hint that this system has no call for.
func StartWriteback(File, int64, int64) {}
