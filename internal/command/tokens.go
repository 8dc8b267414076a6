package command

import (
	"net/url"

	"github.com/spf13/cobra"
)

func newTokens(c Caddy) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tokens revoke|replace-keys …",
		Short: "Ends tokens of a running registry",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(newRevoke(c), newReplaceKeys(c))
	return cmd
}

func newRevoke(c Caddy) *cobra.Command {
	r := newRunning(c)
	var provider string
	cmd := &cobra.Command{
		Use:   "revoke [--provider <name>] [--name <registry>] [--address <admin>] USER",
		Short: "Ends the refresh tokens of a user",
		Long: `Ends the refresh tokens that a user has got until now, so that the password has to
be shown again. A token that was got with one is good for the minutes that it's good
for. API keys stay. USER may be user@PROVIDER:NAME; without a provider it's the user
of that name of each one. It asks Caddy's admin endpoint.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cmd.SilenceUsage = true
			return r.Post("/tokens/revoke?" + url.Values{"user": args, "provider": {provider}}.Encode())
		},
	}
	cmd.Flags().StringVarP(&provider, "provider", "", "", "The provider that knows the user")
	r.flags(cmd)
	return cmd
}

func newReplaceKeys(c Caddy) *cobra.Command {
	r := newRunning(c)
	cmd := &cobra.Command{
		Use:   "replace-keys [--name <registry>] [--address <admin>]",
		Short: "Ends every token and session, since a key that signs them has become known",
		Long: `Makes new keys that sign tokens and the sessions of browsers, and ends all that were
ever given, refresh tokens included: for when a key has become known. Clients and
people sign in again. Other replicas notice within five seconds. API keys stay. It
asks Caddy's admin endpoint.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SilenceUsage = true
			return r.Post("/tokens/replace-keys")
		},
	}
	r.flags(cmd)
	return cmd
}
