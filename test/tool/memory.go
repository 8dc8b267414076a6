//go:build real

package tool

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
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

// Peak is Run, and returns how much the program had in memory at most, in bytes, but for
// its last moment. (What the system says of a process that has ended includes the one
// that has started it.)
func (c *Tool) Peak(args ...string) (peak int64) {
	c.t.Helper()
	running := c.Start(args...)
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case <-running.Exited():
			running.EndsWell()
			return peak
		case <-again.C:
			if _, now, err := Memory(running.Pid); err == nil { // else it has just ended
				peak = max(peak, now)
			}
		}
	}
}
