package filesystem

import (
	"os"
	"strings"
	"sync"
)

// bootID tells one boot of the machine from another; empty if that can't be known.
var bootID = sync.OnceValue(func() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
})
