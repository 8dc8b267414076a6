//go:build real

package tool

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Socket is one of this machine's that listens.
type Socket struct {
	Address string // with the port, in the kernel's own form
	Inode   string
}

// Listening returns the sockets that listen on a TCP port, at whatever address.
func Listening(port string) ([]Socket, error) {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	v4, err4 := os.ReadFile("/proc/net/tcp")
	v6, err6 := os.ReadFile("/proc/net/tcp6")
	var all []Socket
	for line := range strings.Lines(string(v4) + string(v6)) {
		const listens = "0A"
		f := strings.Fields(line)
		if len(f) > 9 && f[3] == listens && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", n)) {
			all = append(all, Socket{f[1], f[9]})
		}
	}
	return all, errors.Join(err4, err6)
}
