// Command xcaddy is Caddy with its standard modules and the registry:
//
//	go run ./xcaddy oci-registry serve
package main

import (
	"os"
	"runtime/debug"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-oci/oci-registry"
)

// gcPercent is GOGC, if nobody has set it. A registry's heap is small, and most of
// what is allocated is gone with its request: at Go's own 100 a busy one collects
// garbage fifty times a second. Caddy's memory limit, which is that of the container,
// holds nevertheless.
const gcPercent = 300

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	caddycmd.Main()
}
