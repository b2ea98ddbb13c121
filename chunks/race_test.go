//go:build race

package chunks

const raceDetector = true
