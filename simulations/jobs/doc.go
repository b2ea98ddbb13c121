// Package jobs has no code. Its test lets three sites share a job for hours of
// virtual time, while links break, nodes die and hang, leaders change and clocks
// jump, and looks whether each time of the job had one effect, or was told to be
// missed.
package jobs
