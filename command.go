package ociregistry

import (
	"fmt"
	"net/http"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-oci/oci-registry/internal/command"
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
	cmd.AddCommand(serveCommand())
	cmd.AddCommand(command.All(command.Caddy{Load: loadOffline, Ask: askAdmin, Schemes: storeSchemes})...)
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
