//go:build !race

package chunks

const raceDetector = false
