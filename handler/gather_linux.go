package handler

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// cork has the kernel keep what is written until it's told otherwise, or a fifth of a
// second is over, as long as it doesn't fill a packet (TCP_CORK, tcp(7)).
func cork(c syscall.RawConn, on bool) {
	value := 0
	if on {
		value = 1
	}
	// It's about speed alone: who can't be corked gets two packets.
	_ = c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_CORK, value) })
}
