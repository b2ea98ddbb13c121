package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

// Group makes a command that has commands.
func Group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("%s has no command %q", cmd.Name(), args[0])}
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(commands...)
	return cmd
}

// AtMost accepts up to n arguments.
func AtMost(n int) cobra.PositionalArgs { return Between(0, n) }

// Exactly accepts n arguments.
func Exactly(n int) cobra.PositionalArgs { return Between(n, n) }

// Between accepts least to most arguments.
func Between(least, most int) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usageError{fmt.Errorf("an argument is missing: %d are needed, and there are %d", least, len(args))}
		case len(args) > most:
			return usageError{fmt.Errorf("%q is one argument too many", args[most])}
		}
		return nil
	}
}
