package ociregistry

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-oci/oci-registry/internal/command"
	"github.com/caddy-oci/oci-registry/internal/command/serve"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "oci-registry",
		Usage: "serve|ls|rm|gc|scrub|restore|copy|export|import|check|explain|state|tokens …",
		Short: "Serves an OCI registry, looks into a running one, or moves what it has",
		Long: `
Serves an OCI registry without a config file; lists and removes what a running
registry has; copies from one store to another, to a file and from one; says who may do what. For a
registry beside other sites, with users, or with options that 'serve' has no flag
for, use the Caddyfile directive oci_registry.`,
		CobraFunc: addCommands,
	})
}

// addCommands adds all sub-commands.
func addCommands(cmd *cobra.Command) {
	cmd.AddCommand(serve.Command(serveModule))
	cmd.AddCommand(command.All(command.Caddy{Load: loadOffline, Ask: askAdmin, Schemes: storeSchemes})...)
}

// serveModule is what serve serves with.
var serveModule = serve.Module{Root: defaultRoot, Handler: serveHandler}

// serveHandler is Handler of serveModule.
func serveHandler(r serve.Registry) json.RawMessage {
	return caddyconfig.JSONModuleObject(Handler{
		Name: "serve",
		Page: true,
		Registry: Registry{
			StorageRaw: caddyconfig.JSONModuleObject(FilesystemStorage{Root: r.Root}, "module", "filesystem", nil),
			ReadOnly:   r.ReadOnly,
			Anonymous:  r.Anonymous,
			Health:     "/health",
		},
	}, "handler", "oci_registry", nil)
}

// storeSchemes open stores by the scheme of their URL. Those that a build leaves out
// aren't there.
var storeSchemes = map[string]command.Opener{}

// askAdmin is Ask of a command.Caddy.
func askAdmin(address, method, path string) (*http.Response, error) {
	address, err := caddycmd.DetermineAdminAPIAddress(address, nil, "", "")
	if err != nil {
		return nil, err
	}
	resp, err := caddycmd.AdminAPIRequest(address, method, path, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("ask Caddy's admin endpoint at %s: %w", address, err)
	}
	return resp, nil
}
