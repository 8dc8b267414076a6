package ociregistry

import (
	"time"

	"golang.org/x/sys/unix"
)

// uptime returns a clock that nobody sets and that goes on while the machine is
// suspended.
func uptime() func() time.Duration {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil {
		return nil
	}
	return func() time.Duration {
		var now unix.Timespec
		_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) // it has worked before
		return time.Duration(now.Nano())
	}
}
