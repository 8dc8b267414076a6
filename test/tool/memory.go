//go:build real

package tool

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Memory returns what a process has in memory now, and had at most, in bytes.
func Memory(pid int) (now, peak int64, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(status)) {
		var to *int64
		switch {
		case strings.HasPrefix(line, "VmRSS:"):
			to = &now
		case strings.HasPrefix(line, "VmHWM:"):
			to = &peak
		default:
			continue
		}
		if *to, err = strconv.ParseInt(strings.Fields(line)[1], 10, 64); err != nil {
			return 0, 0, err
		}
		*to <<= 10
	}
	return now, peak, nil
}
