//go:build !linux

package vfs

import "errors"

// SyncAll has no call for what it is to do on this system.
func SyncAll(FS) error { return errors.ErrUnsupported }

// SyncAllOf has none either.
func SyncAllOf(File) error { return errors.ErrUnsupported }
