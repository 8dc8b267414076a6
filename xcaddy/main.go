// Command xcaddy is Caddy with its standard modules and the registry:
//
//	go run ./xcaddy oci-registry serve
package main

import (
	"os"
	"runtime"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-oci/oci-registry"
)

// floor makes the heap count as larger than it is, by memory that nobody touches and
// that is therefore none. A registry's heap is small, and most of what is allocated
// is gone with its request: without it a busy one collects garbage fifty times a
// second. Unlike a higher GOGC it makes no difference to a heap that's large, as with
// many uploads to S3 at once.
var floor = make([]byte, 64<<20)

// threads is how many threads run Go code at a time: one more than there are processors.
// Where each of them is busy, who is in the kernel for more than 20 microseconds, to read
// or write a megabyte say, has its place taken by a thread that's woken for that, finds
// nothing to do, and sleeps again. It stays as it is where somebody has said how many
// there are to be: by GOMAXPROCS, or by a quota of less than the processors, which more
// threads would only use up sooner.
func threads(processors, now int, setting string) int {
	if setting == "" && now == processors {
		return now + 1
	}
	return now
}

func main() {
	_ = floor
	now := runtime.GOMAXPROCS(0)
	if n := threads(runtime.NumCPU(), now, os.Getenv("GOMAXPROCS")); n != now {
		runtime.GOMAXPROCS(n) // from here on Go doesn't follow a quota that changes
	}
	caddycmd.Main()
}
