//go:build real

package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-oci/oci-registry/test/tool"
)

// cpuTime is what the process' threads have used, to the nanosecond; that of
// threads that have ended is missing, which servers' threads don't.
func cpuTime(pid int) (time.Duration, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, path := range threads {
		stat, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		first, _, _ := strings.Cut(string(stat), " ")
		ns, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", path, err)
		}
		sum += ns
	}
	return time.Duration(sum), nil
}

// resetPeak makes the peak of a process what it has in memory now.
func resetPeak(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}

// listener finds the process that listens on a loopback address, so that a peer
// given by its URL can be measured like one that was started here.
func listener(addr string) (pid int, err error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return 0, err
	}
	listening, err := tool.Listening(port)
	if err != nil {
		return 0, err
	}
	if len(listening) == 0 {
		return 0, fmt.Errorf("nothing listens on port %s", port)
	}
	sockets, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return 0, err
	}
	for _, path := range sockets {
		if to, err := os.Readlink(path); err == nil && to == "socket:["+listening[0].Inode+"]" {
			return strconv.Atoi(strings.Split(path, "/")[2])
		}
	}
	return 0, fmt.Errorf("no process of ours listens on %s", addr)
}

// mallocs is how many objects a Caddy has allocated so far, as its admin
// endpoint tells.
func mallocs(admin string) (uint64, error) {
	resp, err := http.Get(admin + "/debug/vars")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var vars struct {
		Memstats struct{ Mallocs uint64 } `json:"memstats"`
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	err = json.Unmarshal(body, &vars)
	return vars.Memstats.Mallocs, err
}
