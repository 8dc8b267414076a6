//go:build !linux

package vfs

// SyncData is f.Sync that may leave out what isn't needed to read the content
// again, as the time of the last change.
func SyncData(f File) error { return f.Sync() }
