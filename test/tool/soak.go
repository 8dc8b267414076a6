//go:build real

package tool

import "os"

// Sized returns ci, or soak if $OCI_SOAK asks for the full size.
func Sized[T any](ci, soak T) T {
	if os.Getenv("OCI_SOAK") == "1" {
		return soak
	}
	return ci
}
