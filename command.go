package ociregistry

import (
	"fmt"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
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
		CobraFunc: func(cmd *cobra.Command) {
			cmd.AddCommand(serveCommand(), listCommand(), removeCommand(), gcCommand(), scrubCommand(), restoreCommand(),
				copyCommand(), exportCommand(), importCommand(), checkCommand(), explainCommand(), stateCommand(), tokensCommand())
		},
	})
}

func serveCommand() *cobra.Command {
	var s server
	cmd := &cobra.Command{
		Use:   "serve [--root <folder>] [--listen <address>] [--domain <name>] [--read-only] [--debug]",
		Short: "Serves a registry, until it's interrupted",
		Long: `Serves a registry, until it's interrupted: by plain HTTP on this machine only,
or, with --domain, to everybody by HTTPS with a certificate that Caddy gets.

On a loopback address anybody on this machine may push, pull and delete.
Elsewhere anybody may pull and nobody may push: that takes users, and so a
Caddyfile.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SilenceUsage = true
			return s.run(cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVarP(&s.root, "root", "r", "", "The folder that keeps the content (default: where the directive oci_registry keeps it)")
	f.StringVarP(&s.listen, "listen", "l", "", "The address to listen on (default 127.0.0.1:5000, with --domain :443)")
	f.StringVarP(&s.domain, "domain", "d", "", "The name to serve by HTTPS")
	f.BoolVarP(&s.readOnly, "read-only", "", false, "Refuse everything that changes content")
	f.BoolVarP(&s.debug, "debug", "v", false, "Log every detail")
	return cmd
}

func listCommand() *cobra.Command {
	var url string
	cmd := &cobra.Command{
		Use:   "ls [--registry <url>] [REPOSITORY]",
		Short: "Lists the repositories of a running registry, or the tags of one",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cmd.SilenceUsage = true
			c, err := newClient(url)
			if err != nil {
				return err
			}
			names := c.repositories(cmd.Context())
			if len(args) == 1 {
				names = c.tags(cmd.Context(), args[0])
			}
			for name, err := range names {
				if err != nil {
					return err
				}
				if _, err := fmt.Fprintln(cmd.OutOrStdout(), name); err != nil {
					return err
				}
			}
			return nil
		},
	}
	registryFlag(cmd, &url)
	return cmd
}

func removeCommand() *cobra.Command {
	var url string
	cmd := &cobra.Command{
		Use:   "rm [--registry <url>] REPOSITORY:TAG|REPOSITORY@DIGEST",
		Short: "Removes a tag or a manifest from a running registry",
		Long: `Removes a tag or a manifest from a running registry. Removing a tag leaves what
it names, which can still be pulled by its digest; removing a manifest, by its
digest, removes the tags that name it.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cmd.SilenceUsage = true
			c, err := newClient(url)
			if err != nil {
				return err
			}
			return c.remove(cmd.Context(), args[0])
		},
	}
	registryFlag(cmd, &url)
	return cmd
}

func registryFlag(cmd *cobra.Command, to *string) {
	cmd.Flags().StringVarP(to, "registry", "", "http://127.0.0.1:5000", "The registry's URL; https://user:password@host signs in")
}
