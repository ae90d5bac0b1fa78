<?php
/*
 * Many small files, no two alike, a thousand to a directory and a hundred directories to a directory.
 *
 * usage: make-files.php DIRECTORY COUNT
 */
[ , $directory, $count ] = $argv;
for ( $i = 0; $i < $count; $i++ ) {
	if ( $i % 1000 === 0 ) {
		$below = sprintf( '%s/%03d/%03d', $directory, intdiv( $i, 100000 ), intdiv( $i, 1000 ) % 100 );
		mkdir( $below, 0755, true );
	}
	file_put_contents( "$below/file-$i.txt", "This is file $i. " . hash( 'sha256', (string)$i ) . "\n" );
}
