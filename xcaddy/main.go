// Command xcaddy is Caddy with its standard modules and the registry:
//
//	go run ./xcaddy oci-registry serve
package main

import (
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

func main() {
	_ = floor
	caddycmd.Main()
}
