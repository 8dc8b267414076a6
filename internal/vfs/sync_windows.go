package vfs

import "os"

// syncDir does nothing: NTFS journals directory entries, and Windows can't flush a directory.
func syncDir(*os.File) error { return nil }
