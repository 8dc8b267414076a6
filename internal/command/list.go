package command

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newList() *cobra.Command {
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

func newRemove() *cobra.Command {
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
