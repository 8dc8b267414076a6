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

// oneMore lets one thread more run Go code than there are processors. Where each of
// them is busy, who is in the kernel for more than 20 microseconds, to read or write a
// megabyte say, has its place taken by a thread that's woken for that, finds nothing to
// do, and sleeps again. It's left alone where somebody has said how many there are to
// be: by GOMAXPROCS, or by a container's share of the processors, which more threads
// would only use up sooner.
func oneMore() {
	n := runtime.NumCPU()
	if os.Getenv("GOMAXPROCS") == "" && runtime.GOMAXPROCS(0) == n {
		runtime.GOMAXPROCS(n + 1)
	}
}

func main() {
	_ = floor
	oneMore()
	caddycmd.Main()
}
