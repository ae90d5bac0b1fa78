<?php
/*
 * Usage: php content.php DIRECTORY PAGES FILES
 * Writes DIRECTORY/pages (wiki text, one file per page) and DIRECTORY/files (PNG images, hardly compressible, as
 * photographs are). The same arguments give the same bytes.
 */
[ , $directory, $pages, $files ] = $argv;
mt_srand( 2 );
foreach ( [ "$directory/pages", "$directory/files" ] as $each ) {
	if ( !is_dir( $each ) && !mkdir( $each, 0755, true ) ) {
		fwrite( STDERR, "content.php: cannot create $each\n" );
		exit( 1 );
	}
}

function chunk( string $type, string $data ): string {
	return pack( 'N', strlen( $data ) ) . $type . $data . pack( 'N', crc32( $type . $data ) );
}

function picture( int $width, int $height ): string {
	$rows = '';
	for ( $y = 0; $y < $height; $y++ ) {
		$rows .= "\0";
		for ( $x = 0; $x < $width; $x++ ) {
			$rows .= chr( $x * 255 / $width ) . chr( $y * 255 / $height ) . chr( mt_rand( 0, 255 ) );
		}
	}
	return "\x89PNG\r\n\x1a\n" . chunk( 'IHDR', pack( 'NNC5', $width, $height, 8, 2, 0, 0, 0 ) )
		. chunk( 'IDAT', gzcompress( $rows, 1 ) ) . chunk( 'IEND', '' );
}

for ( $n = 1; $n <= $files; $n++ ) {
	file_put_contents( "$directory/files/Picture_$n.png", picture( 160 + 20 * ( $n % 8 ), 120 + 15 * ( $n % 8 ) ) );
}

$words = explode( ' ', 'a site is a branch over snapshots and a release is one switch of one pointer so a rollback is '
	. 'the switch back while visitors read on and nobody restores a thing' );
for ( $n = 1; $n <= $pages; $n++ ) {
	$text = "'''Chapter $n''' of the quick start.\n\n[[File:Picture " . ( 1 + $n % $files ) . ".png]]\n";
	for ( $section = 1; $section <= 4; $section++ ) {
		$text .= "\n== Section $section ==\n";
		for ( $word = 0; $word < 120; $word++ ) {
			$text .= $words[ mt_rand( 0, count( $words ) - 1 ) ] . ' ';
		}
		$text .= '[[Chapter ' . mt_rand( 1, $pages ) . "]]\n* one\n* two\n* three\n";
	}
	file_put_contents( "$directory/pages/Chapter $n.txt", "$text\n[[Category:Chapters]]\n" );
}
