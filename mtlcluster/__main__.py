from mtlcluster.cli import main

main()
