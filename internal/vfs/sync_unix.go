//go:build !windows

package vfs

import "os"

func syncDir(f *os.File) error { return f.Sync() }
